"""Is something unusual? Every minute of every watched series is compared with what is usual for that hour of the week.

    series → baseline → detect → watch

`series` reads minutes from rows, `baseline` learns what is usual and how much chance does, `detect` decides, `watch`
keeps what was learned and raises the alerts. Only the first and the last know the database.
"""

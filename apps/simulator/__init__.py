"""A provider to test against: its own HTTP process that behaves like a real asynchronous provider.

It imports nothing of the platform and nothing of the platform imports it; they meet over HTTP only.
`faults` says what goes wrong, `engine` what a task does in time, `ledger` what was received and charged,
`drawing` what is delivered. `door` is what the protocols' front ends have in common (`wavespeed`, `replicate`, `fal`,
…): each translates these to one provider's wire.
"""

"""A provider to test against: its own HTTP process that behaves like a real asynchronous provider.

It imports nothing of the platform and nothing of the platform imports it; they meet over HTTP only.
`faults` says what goes wrong, `engine` what a task does in time, `ledger` what was received and charged,
`drawing` what is delivered; a protocol front end (`wavespeed`) translates these to one provider's wire.
"""

"""One module for each check. They import their libraries when they run: web processes never load those."""

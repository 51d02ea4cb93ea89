"""One command runs the platform: embedded servers, the list of processes, and who watches them."""

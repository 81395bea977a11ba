"""A process beside ours that works on mail: on the second core, and where it can be stopped."""

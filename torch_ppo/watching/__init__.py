"""Watching a policy: in a window, as a video, in a browser, and while it is still being trained."""

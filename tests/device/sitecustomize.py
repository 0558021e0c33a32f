"""What Python imports first where this folder is in PYTHONPATH: here the device of second.py."""

import os

if library := os.environ.get("SECOND_DEVICE"):
    import second

    second.join(library)

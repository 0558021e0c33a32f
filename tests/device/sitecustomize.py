"""What Python imports first where this folder is in PYTHONPATH: here the device of second.py."""

import os
import traceback

if library := os.environ.get("SECOND_DEVICE"):
    try:
        import second

        second.join(library)
    except BaseException:  # Python would go on without the device, and prove nothing
        traceback.print_exc()
        os._exit(1)

"""The Python calls: they wire the parts together, keep what was done, and draw it."""

import gc
import sys

if "torch" not in sys.modules:
    # Importing torch makes two hundred thousand objects that stay. To look through them for garbage meanwhile
    # and at the end of the program takes half a second; before torch there is nothing of a person's to find.
    _collecting = gc.isenabled()
    gc.disable()
    import torch as torch

    gc.freeze()
    if _collecting:
        gc.enable()

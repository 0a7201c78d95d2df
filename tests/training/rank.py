"""Prints which of how many processes this one is: `python -m tests.training.rank`, by a launcher."""

import sys

from training.devices import devices

if __name__ == "__main__":
    found = devices()
    said = f"{found.rank} of {found.count}, {len(found.gather([found.rank]))} in touch\n"
    sys.stdout.write(said)  # at once: where Python does not buffer, `print` writes the end of the line apart

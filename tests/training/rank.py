"""Prints which of how many processes this one is: `python -m tests.training.rank`, by a launcher."""

from training.devices import devices

if __name__ == "__main__":
    found = devices()
    print(f"{found.rank} of {found.count}, {len(found.gather([found.rank]))} in touch")

"""`python -m bsqc`."""

from bsqc.main import main

main()

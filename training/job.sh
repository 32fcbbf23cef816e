#!/bin/sh
# One training, from a folder of pictures to a model and a report: job.sh DATA MINUTES OUT [--resume DIR] ...
# PYTHON chooses the interpreter; packages that it lacks may lie in training/beside (see training/README.md).
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
PYTHONPATH="$root:$here:$root/cli:$here/beside${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" -m bsqtrain.job "$@"

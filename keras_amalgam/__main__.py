"""`python -m keras_amalgam` is the command `keras-amalgam`."""

import sys

from keras_amalgam.cli.main import main

sys.exit(main())

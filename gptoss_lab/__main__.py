"""`python -m gptoss_lab`, the same as `gptoss-lab`."""

import sys

from gptoss_lab.cli import main

sys.exit(main())

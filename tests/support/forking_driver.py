"""A driver for a Ray cluster that was there before, all of whose nodes are on this machine.

A run in such a cluster does not fork its processes, since another machine's workers are no forks of this one's; each of
them imports what all of them share, which takes minutes. Here they are forks.
"""

import sys
from pathlib import Path

from omegaconf import OmegaConf

from guidelines_core.launch import driver
from tests.support.once_driver import import_once

if __name__ == "__main__":
    composed = Path(sys.argv[1])
    config = OmegaConf.load(composed)
    config.guidelines.fork_processes = True
    OmegaConf.save(config, composed)
    import_once()
    driver.main(composed)

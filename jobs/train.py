"""The stage `train`.

ray job submit --working-dir . -- python jobs/train.py -c configs/cluster.yaml
"""

import sys

from mer_ray.__main__ import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])

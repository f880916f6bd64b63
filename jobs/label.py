"""The stage `label`.

ray job submit --working-dir . -- python jobs/label.py -c configs/cluster.yaml
"""

import sys

from mer_ray.__main__ import main

if __name__ == "__main__":
    main(["label", *sys.argv[1:]])

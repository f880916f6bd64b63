"""The stage `collect`.

ray job submit --working-dir . -- python jobs/collect.py -c configs/cluster.yaml
"""

import sys

from mer_ray.__main__ import main

if __name__ == "__main__":
    main(["collect", *sys.argv[1:]])

"""The stage `acquire`.

ray job submit --working-dir . -- python jobs/acquire.py -c configs/cluster.yaml
"""

import sys

from mer_ray.__main__ import main

if __name__ == "__main__":
    main(["acquire", *sys.argv[1:]])

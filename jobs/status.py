"""What a workspace holds, and what it lost.

ray job submit --working-dir . -- python jobs/status.py -c configs/cluster.yaml
"""

import sys

from mer_ray.__main__ import main

if __name__ == "__main__":
    main(["status", *sys.argv[1:]])

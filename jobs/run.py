"""The whole pipeline: every stage, in order.

ray job submit --working-dir . -- python jobs/run.py -c configs/cluster.yaml
"""

import sys

from mer_ray.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])

"""The stage `report`.

ray job submit --working-dir . -- python jobs/report.py -c configs/cluster.yaml
"""

import sys

from mer_ray.__main__ import main

if __name__ == "__main__":
    main(["report", *sys.argv[1:]])

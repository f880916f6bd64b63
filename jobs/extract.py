"""The stage `extract`.

ray job submit --working-dir . -- python jobs/extract.py -c configs/cluster.yaml
"""

import sys

from mer_ray.__main__ import main

if __name__ == "__main__":
    main(["extract", *sys.argv[1:]])

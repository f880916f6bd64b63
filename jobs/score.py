"""Score a catalog, or without one the workspace's own tracks.

ray job submit --working-dir . -- python jobs/score.py -c configs/cluster.yaml
ray job submit --working-dir . -- python jobs/score.py s3://BUCKET/music/ --out s3://BUCKET/scores/
"""

import sys

from mer_ray.__main__ import main

if __name__ == "__main__":
    main(["score", *sys.argv[1:]])

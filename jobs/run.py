"""The whole pipeline: every stage, in order.

ray job submit --working-dir . -- python jobs/run.py -c configs/cluster.yaml

Submitted again after its driver died, it goes on from there. With `--submission-id NAME` (before the dashes), Ray
refuses a second job of that NAME until `ray job delete NAME`, so that nobody starts two drivers on one workspace by
mistake. For nodes without mer-ray's packages, `--runtime-env cluster/runtime-env.yaml` brings them.
"""

import sys

from mer_ray.__main__ import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])

"""The parts of scripts/deploy.py, to be read from the bottom up: each module uses only those above it.

    account     the account and the region, and the questions that a command asks
    settings    the values that a deployment is given: parameters, tags, the canary
    features    the features that a function is built and deployed with
    artifacts   the zip of a function, and the bucket that CloudFormation and Lambda read from
    changes     a change set, and the resources that it would replace or remove
    stack       a stack of CloudFormation: its states and its updates
    checking    the direct invocation of a version, before it serves a request
    migration   the function that changes the schema of a database, before a new version serves requests
    rollout     versions of a function, the canary, and the rollback
"""

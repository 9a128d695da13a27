"""Chunk work on a Dask cluster: several processes on several machines copy and compare for one runner.

``dask_client`` is the runner's half, ``workers`` what happens in the processes of the cluster. The only package that
knows Dask; who does not use a cluster does not need it installed.
"""

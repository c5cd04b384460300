"""Fully sharded data parallel (FSDP2): weights, gradients and moments divided among the processes of a fit.

sharded       a module divided among processes, beside the whole one
shard_files   one file of divided tensors, the same whatever the number of processes
"""

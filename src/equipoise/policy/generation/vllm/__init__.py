"""vLLM as the sampling engine, in this process or in servers, behind one call.

in_process     `sampling.engine=vllm`: an engine in this process, asleep while weights are trained
remote         `sampling.engine=vllm_server`: prompts dealt among servers, as token ids
servers        the servers of a run, the user's or one of our own, and the weights that they hold
serve_process  a `vllm serve` of our own, ended by `keeper` however we end
handover       weights for a server: an adapter, or the whole model
replies        requests and replies of vLLM's interface
engine_check   an engine's log-probs against the policy's own
"""

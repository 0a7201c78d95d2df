"""The chat API: vLLM in process, one policy version for each answer, swapped while people talk to it."""

"""The vocabulary of Plumbline, and what has two sides. Imports nothing else of ours; loads neither torch nor vllm."""

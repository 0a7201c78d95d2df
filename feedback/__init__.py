"""The feedback API, and all between a vote and a training row. Imports only `core`; loads neither torch nor vllm."""

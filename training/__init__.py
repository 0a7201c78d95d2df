"""From a snapshot of feedback to a published policy.

Programs (`python -m training.X`; each reads files, writes files, and loads torch only after its arguments are known
to be right): `reward`, `dpo`, `publish`, `evaluate`. Their bodies are the modules `reward_fit`, `dpo_fit`, `probe` and
`measure`; the mathematics is pure: `losses`, `logprobs`, `statistics`, `gate`.
"""

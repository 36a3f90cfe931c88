"""llm-proxy: any model, keys that never leave, money that is counted."""

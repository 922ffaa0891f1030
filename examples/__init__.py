"""The paper's pipelines and examples: scripts to run and to copy from."""

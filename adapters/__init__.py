"""Thin glue between star_head and other libraries; installed as ``star_head.adapters``.

Each module needs one outside library and says which extra installs it.
"""

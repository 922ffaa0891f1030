"""Thin glue between star_head and other libraries; installed as ``star_head.adapters``.

Each module needs one outside library, which the extra of the same name installs.
"""

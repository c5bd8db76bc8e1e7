"""Plugins with a fault each, and one without: what `tinygen check` must find."""

"""First-party plugins: a folder a family. The host finds them by walking this package."""

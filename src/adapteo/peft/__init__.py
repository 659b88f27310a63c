"""Ways of adapting a backbone, one file each; a file opens with its citation and its one formula."""

"""One file per architecture; each offers a function that builds a `torch.nn.Module`."""

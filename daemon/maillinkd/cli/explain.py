import typer
def add_to(root: typer.Typer) -> None:
    pass

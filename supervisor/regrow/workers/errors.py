"""What a child of another process raised, as far as it can be known here."""


class ChildError(Exception):
    """An exception that ended a Python child in its own process: its class by name, and its text.

    The exception itself stays there: to bring it here would mean to unpickle what the child sends.
    """

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(f"{type_name}: {message}" if message else type_name)
        self.type_name = type_name
        self.message = message

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChildError) and (self.type_name, self.message) == (other.type_name, other.message)

    def __hash__(self) -> int:
        return hash((self.type_name, self.message))

"""Messages: what requests and answers hold, the types of the OpenAPI document."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

_INTEGERS = 2**63
# Ids keep their type: 17 and "17" are two users.
Id = (
    Annotated[StrictInt, Field(ge=-_INTEGERS, lt=_INTEGERS)]
    | Annotated[StrictStr, Field(min_length=1, max_length=256)]
)
Time = Annotated[float, Field(ge=0, le=253_402_300_799, allow_inf_nan=False)]
Value = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[StrictStr, Field(min_length=1, max_length=128)]
ContextValue = Value | Annotated[StrictStr, Field(max_length=256)]
Context = Annotated[dict[Name, ContextValue], Field(max_length=64)]


class _Schema(BaseModel):
    """Base of all requests: other fields than the named ones are refused."""

    model_config = ConfigDict(extra="forbid")


class NewEvent(_Schema):
    """One event: who did what with which item, and when."""

    user_id: Id
    item_id: Id
    kind: Name = Field(description="A kind that the service has a feedback for, such as `click`.")
    event_id: Name | None = Field(
        None, description="An event with a known id is not learned again. Without it, it is."
    )
    timestamp: Time | None = Field(None, description="Seconds since 1970; by default now.")
    value: Value | None = Field(None, description="Feedback in place of that of the kind.")
    list_id: Name | None = Field(None, description="The list that showed the item.")
    context: Context | None = None


class NewEvents(_Schema):
    """Events to store and to learn."""

    events: list[NewEvent] = Field(min_length=1)


Cell = Value | StrictBool | Annotated[StrictStr, Field(max_length=4096)]
Feature = Cell | Annotated[list[Cell], Field(max_length=4096)] | None


class NewItem(_Schema):
    """A new item, by what the model knows items by."""

    item_id: Id
    text: Annotated[StrictStr, Field(max_length=4096)] | None = None
    embedding: list[Value] | None = Field(None, min_length=1, max_length=4096)
    features: Annotated[dict[Name, Feature], Field(max_length=256)] | None = Field(
        None, description="Columns of the table of items that the model was fitted with."
    )


class NewItems(_Schema):
    """Items to store and to register, which need no events."""

    items: list[NewItem] = Field(min_length=1)


class Acknowledged(BaseModel):
    """Acknowledgement: the events are on disk."""

    seq: int = Field(description="Number of the last event; pass it as `min_seq`.")
    accepted: int
    duplicates: int


class Query(_Schema):
    """One query: a user, at a time, in a context."""

    user_id: Id
    timestamp: Time | None = None
    query: Annotated[StrictStr, Field(max_length=1024)] | None = None
    context: Context | None = None


class PastEvent(_Schema):
    """One event of a history that comes with the request."""

    user_id: Id
    item_id: Id
    timestamp: Time | None = None


class ListRequest(_Schema):
    """For whom to make lists, and from what."""

    users: list[Id] | None = Field(None, min_length=1)
    queries: list[Query] | None = Field(None, min_length=1)
    n: int = Field(10, ge=1, strict=True)
    candidates: list[Id] | None = Field(None, min_length=1)
    exclude: list[Id] | None = None
    exclude_seen: StrictBool | None = Field(
        None, description="Leave out what the user has had; the default is that of the service."
    )
    history: list[PastEvent] | None = Field(None, min_length=1)
    min_seq: int | None = Field(
        None, ge=0, lt=_INTEGERS, strict=True, description="Answer after this event is learned."
    )
    because: StrictBool = Field(False, description="Add the past items behind each score.")
    remember: StrictBool = Field(
        True, description="False: nobody is shown the lists, so they are neither kept nor counted."
    )


class Reason(BaseModel):
    """A past item, and what it adds to a score."""

    item_id: Id
    contribution: float | None = Field(description="Null if it is not finite.")


class ListedItem(BaseModel):
    """An item of a list."""

    item_id: Id
    score: float | None = Field(description="Null if the model's score is not finite.")
    because: list[Reason] | None = None


class ItemList(BaseModel):
    """The list of one query, best item first."""

    user_id: Id
    list_id: str = Field(description="Send it with the events that follow from the list.")
    items: list[ListedItem]


class Lists(BaseModel):
    """Lists, and the model they are from."""

    lists: list[ItemList]
    model: str
    seq: int = Field(description="The last event that the model has learned.")


class Row(_Schema):
    """A pair to predict."""

    user_id: Id
    item_id: Id
    timestamp: Time | None = None
    context: Context | None = None


class Rows(_Schema):
    """Pairs to predict."""

    rows: list[Row] = Field(min_length=1)


class Predictions(BaseModel):
    """Prediction of each row, as the model's `predict` returns it; null if it is not finite."""

    predictions: list[float | int | str | None]
    seq: int


class ModelInfo(BaseModel):
    """One saved model."""

    name: str
    seq: int
    digest: str
    kind: str
    live: bool = Field(description="Whether the model in use comes from it.")


class Models(BaseModel):
    """Saved models, oldest first."""

    models: list[ModelInfo]


class Served(BaseModel):
    """The name of a model."""

    model: str


class QualityHistory(BaseModel):
    """Figures of the model and of the loop over time; null where a figure is not defined."""

    metric: str = Field(description="What the loss is: log_loss or rmse.")
    time: list[float] = Field(description="Seconds since 1970, oldest first; the last is now.")
    model: list[str] = Field(description="The model in use.")
    figures: dict[str, list[float | None]]
    reasons: bool = Field(description="Whether the model gives reasons (`because`).")


class Forgotten(BaseModel):
    """What was erased."""

    receipt: dict[str, Any]


class Health(BaseModel):
    """State of the service."""

    status: str


class ProblemDocument(BaseModel):
    """An error, in the form of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None

"""What the user wrote: schema, loading, and every error with its place."""

from adapterstilts.recipe.load import from_plain, load
from adapterstilts.recipe.problems import InvalidRecipe
from adapterstilts.recipe.schema import Recipe
from adapterstilts.recipe.validate import bind, validate

__all__ = ["InvalidRecipe", "Recipe", "bind", "from_plain", "load", "validate"]

"""What is protected: populations of records with a unit of privacy, and who is in which training set."""

from sfumato.data.membership import Membership
from sfumato.data.population import Population, Unit
from sfumato.data.records import ArrayRecords, Records
from sfumato.data.view import PrivateView

__all__ = ["ArrayRecords", "Membership", "Population", "PrivateView", "Records", "Unit"]

"""Users of the randomuser shape for the ledgers: the same seed gives the same users."""

import random
import uuid

_NAMES = [
    ("Zoë", "Brouwer", "NL", "Netherlands", "Zwolle"),
    ("پارسا", "رضایی", "IR", "Iran", "قم"),
    ("Ярина", "Ткачук", "UA", "Ukraine", "Полтава"),
    ("Oğuzhan", "Çağıran", "TR", "Turkey", "Şırnak"),
    ("Olivia", "O'Connor", "IE", "Ireland", "Ballybofey"),
    ("Ana \"Anita\"", "García\\Peña", "ES", "Spain", "Valencia"),
]


def make(count, seed):
    """`count` users with ids that no other seed has."""
    numbers = random.Random(seed)
    for index in range(count):
        first, last, nat, country, city = numbers.choice(_NAMES)
        street = f"{numbers.randrange(1, 9999)} Main Street, {city}, {country}"
        user = {
            "id": str(uuid.UUID(int=numbers.getrandbits(128), version=4)),
            "first_name": first,
            "last_name": last,
            "gender": numbers.choice(["female", "male"]),
            "address": street,
            # As the web service has it: mostly a number, sometimes a text.
            "post_code": numbers.randrange(1000, 99999) if numbers.random() < 0.85 else f"P{index} X{index % 7}K",
            "email": f"{nat.lower()}{index}@example.com",
            "username": f"user{index}",
            "dob": f"19{numbers.randrange(50, 99)}-0{numbers.randrange(1, 9)}-1{numbers.randrange(0, 9)}T08:01:22.133Z",
            "registered_date": f"20{numbers.randrange(10, 25)}-07-19T20:10:05.871Z",
            "phone": f"({numbers.randrange(100, 999)}) {numbers.randrange(100, 999)}-{numbers.randrange(1000, 9999)}",
            "picture": f"https://randomuser.me/api/portraits/{numbers.randrange(0, 99)}.jpg",
            "country": country,
            "city": city,
            "nat": nat,
        }
        if numbers.random() < 0.1:
            user["picture"] = None
        yield user


def ids(users):
    """The ledger: their ids, sorted as text."""
    return sorted(user["id"] for user in users)

"""Generated text for the pocket in any language of CLDR: names and a diary, as the language writes them.

Everything said comes from Babel's copy of CLDR, so the words are those of the language and their forms agree.
(Part of `sae_core.pocket`.)
"""

import random
from collections.abc import Iterator
from datetime import date, time, timedelta

FULL_STOPS = {"zh_CN": "。", "ja": "。", "hi": "।", "bn": "।", "am": "።", "hy": "։", "th": ""}


def locale_texts(code: str, messages: list[str]) -> Iterator[str]:
    """Endless texts in the language of a locale, in paragraphs of three kinds.

    The first two are used up in the first texts and never repeated: `messages`, which are sentences in the
    language, and lists of CLDR's names of languages, places, currencies and units. The third is a diary of
    dates, places, quantities and prices.
    """
    from babel import Locale, dates, lists, numbers, units

    rng, locale, stop = random.Random(code), Locale.parse(code), FULL_STOPS.get(code, ".")

    def joined(words: list[str], style: str = "standard") -> str:
        return lists.format_list(words, style, locale)

    def some(words: list[str], most: int) -> list[str]:
        return rng.sample(words, rng.randint(2, most))

    def quantity(unit: str) -> str:
        return units.format_unit(rng.randrange(2, 400), unit, "long", locale=locale)

    tables = (locale.languages, locale.territories, locale.scripts, locale.currencies, locale.variants)
    languages, territories, scripts, currencies, variants = (sorted(set(table.values())) for table in tables)
    cities = sorted({zone["city"] for zone in locale.time_zones.values() if "city" in zone})
    zones = sorted({text for zone in locale.meta_zones.values() for text in zone.get("long", {}).values()})
    dimensions = sorted({text for unit in locale.unit_display_names.values() if (text := unit.get("long"))})
    # A unit that the locale does not name is printed as its identifier.
    measures = [unit for unit in sorted(locale.unit_display_names) if unit not in quantity(unit)]

    def dated(day: date, step: timedelta) -> str:
        distance = dates.format_timedelta(step, add_direction=True, locale=locale)
        return f"{distance}: {dates.format_date(day + step, 'long', locale)}"

    def diary() -> str:
        day = date(1900, 1, 1) + timedelta(days=rng.randrange(73_000))
        step = timedelta(days=rng.choice([1, 2, 3, 4, 5, 7, 14, 21]))
        hour = time(rng.randrange(24), rng.randrange(60))
        amount, currency = rng.randrange(2, 9000), rng.choice(sorted(locale.currencies))
        sentences = [
            f"{dates.format_date(day, 'full', locale)}: {rng.choice(cities)} ({rng.choice(territories)})",
            dated(day, -step),
            dated(day, step),
            dates.format_interval(day, day + step, "yMMMMd", locale=locale),
            f"{rng.choice(zones)}: {dates.format_time(hour, 'short', locale=locale)}",
            joined([quantity(unit) for unit in some(measures, 4)]),
            numbers.format_currency(amount, currency, "0", locale, currency_digits=False, format_type="name"),
            f"{rng.choice(currencies)}: {numbers.format_percent(rng.random(), locale=locale)}",
            f"{rng.choice(dimensions)}: {numbers.format_decimal(amount * 1000, locale=locale)}",
            f"{rng.choice(territories)}: {joined(some(languages, 5))}",
            joined(some(cities, 4), "or"),
        ]
        return " ".join(sentence + stop for sentence in rng.sample(sentences, 4))

    once = [" ".join(messages[i : i + 5]) for i in range(0, len(messages), 5)]
    for names in (languages, territories, scripts, currencies, variants, cities, zones, dimensions):
        shuffled = rng.sample(names, len(names))
        once += [joined(shuffled[i : i + 10]) + stop for i in range(0, len(names), 10)]
    rng.shuffle(once)
    while True:
        paragraphs = [once.pop() for _ in range(min(6, len(once)))] + [diary() for _ in range(6)]
        rng.shuffle(paragraphs)
        yield "\n\n".join(paragraphs)

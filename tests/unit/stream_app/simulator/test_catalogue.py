from __future__ import annotations

import re

from stream_app.simulator.catalogue import ItemCatalogue


def test_the_default_catalogue_has_120_categories_and_every_item_once() -> None:
    catalogue = ItemCatalogue(7, 4_000)
    assert len(catalogue.categories) == 120
    assert [item.id for item in catalogue.items] == [f"i{number}" for number in range(4_000)]
    assert all(re.fullmatch(r"c\d{3,4}", category.id) for category in catalogue.categories)
    assert len({category.id for category in catalogue.categories}) == 120


def test_items_have_a_price_and_a_title_that_names_their_goods() -> None:
    for category in ItemCatalogue(3, 500).categories:
        for item in category.items:
            assert item.category == category.id
            assert item.price > 0
            assert item.title.endswith(category.goods)


def test_a_page_shows_each_item_once() -> None:
    for category in ItemCatalogue(7, 100).categories:
        for ids, page in zip(category.page_ids, category.pages, strict=True):
            assert ids == [item.id for item in page]
            assert len(set(ids)) == len(ids)

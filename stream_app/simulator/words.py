"""The words that titles and queries are made of: 12 departments of 10 kinds of goods, with typical prices."""

from __future__ import annotations

from typing import Final, NamedTuple


class Department(NamedTuple):
    """One of the shop's departments: its name, the middle of its prices, and ten kinds of goods."""

    name: str
    typical_price: float
    goods: tuple[str, ...]


def _department(name: str, typical_price: float, goods: str) -> Department:
    return Department(name, typical_price, tuple(goods.split(",")))


DEPARTMENTS: Final = (
    _department("phones", 320.0, "phone,case,charger,cable,power bank,screen guard,headset,holder,stylus,sim tool"),
    _department("computers", 410.0, "laptop,monitor,keyboard,mouse,webcam,router,hard disk,memory,docking station,tablet"),
    _department("fashion", 38.0, "dress,shirt,jeans,jacket,skirt,sweater,coat,scarf,belt,socks"),
    _department("shoes", 62.0, "sneakers,boots,sandals,slippers,loafers,heels,running shoes,trekking shoes,clogs,insoles"),
    _department("beauty", 21.0, "lipstick,face cream,shampoo,perfume,mascara,soap,sun milk,nail polish,brush,serum"),
    _department("kitchen", 47.0, "kettle,pan,knife,toaster,blender,mug,plate,scale,coffee maker,lunch box"),
    _department("home", 75.0, "lamp,pillow,blanket,curtain,shelf,carpet,chair,mirror,vase,clock"),
    _department("garden", 54.0, "hose,spade,lawn mower,flower pot,grill,parasol,seeds,gloves,bench,lantern"),
    _department("sport", 58.0, "yoga mat,dumbbell,bicycle,helmet,tent,backpack,football,racket,swimsuit,jump rope"),
    _department("toys", 27.0, "puzzle,doll,building blocks,board game,kite,toy car,teddy bear,train set,marbles,drone"),
    _department("books", 16.0, "novel,cook book,atlas,comic,dictionary,travel guide,calendar,notebook,crime story,poems"),
    _department("groceries", 9.0, "coffee,tea,chocolate,olive oil,rice,noodles,honey,nuts,juice,spices"),
)
_BRANDS = "Alden Brio Corvo Delphi Elmet Fjord Garza Helio Indra Juno Kestrel Lumen Mirador Nordal Orsa Pallas"
_QUALITIES = "black white red blue green small large light slim classic sport premium soft foldable warm organic"
BRANDS: Final = tuple(_BRANDS.split())
QUALITIES: Final = tuple(_QUALITIES.split())
# What people type who did not come to buy.
CHORES: Final = ("return my order", "refund status", "where is my parcel", "cancel order", "wrong size exchange")

"""Sources that the features' reasons cite: the word before the colon of a reason -> the work."""

from __future__ import annotations

from typing import Final

SOURCES: Final[dict[str, str]] = {
    "FDH": "Le Borgne, Siblini, Lebichot, Bontempi, Reproducible Machine Learning for Credit Card Fraud Detection - Practical "
    "Handbook (2022), chapter 3: counts and mean amounts of a customer and a terminal over 1, 7 and 30 days; night, weekend",
    "Whitrow 2009": "Whitrow, Hand, Juszczak, Weston, Adams, Transaction aggregation as a strategy for credit card fraud "
    "detection (Data Mining and Knowledge Discovery 18)",
    "Bahnsen 2016": "Correa Bahnsen, Aouada, Stojanovic, Ottersten, Feature engineering strategies for credit card fraud "
    "detection (Expert Systems with Applications 51): periodic behaviour of the time of a transaction",
    "IEEE-CIS": "IEEE-CIS Fraud Detection (Kaggle 2019, data by Vesta): counts of addresses and devices that go with a card (C), "
    "days since earlier transactions (D), whether names and addresses match (M)",
    "velocity": "velocity checks of payment providers: counts per card, device, account and address in minutes to a day (e.g. "
    "Stripe Radar's rule attributes, Cybersource Decision Manager's velocity rules)",
    "OWASP": "OWASP Automated Threats to Web Applications: OAT-001 carding, OAT-003 ad fraud, OAT-008 credential stuffing, "
    "OAT-012 cashing out, OAT-019 account creation",
    "RecSys 2015": "RecSys Challenge 2015 (Ben-Shimon and others; won by Romov and Sokolov): buy or not, from a session's clicks",
    "Sakar 2019": "Sakar, Polat, Katircioglu, Kastro, Real-time prediction of online shoppers' purchasing intention using "
    "multilayer perceptron and LSTM recurrent neural networks (Neural Computing and Applications 31)",
    "GA": "Google Analytics: a session ends after 30 minutes without activity",
    "RFM": "recency, frequency and monetary value (Hughes, Strategic Database Marketing, 1994)",
    "YouTube 2016": "Covington, Adams, Sargin, Deep Neural Networks for YouTube Recommendations (RecSys 2016): time since the "
    "last contact, counts of earlier ones, age of the example",
    "DIN": "Zhou and others, Deep Interest Network for Click-Through Rate Prediction (KDD 2018): a user's past with things like "
    "the one at hand",
    "Ding 2005": "Ding, Li, Time Weight Collaborative Filtering (CIKM 2005): exponential decay with a half-life",
    "Kleinberg 2002": "Kleinberg, Bursty and Hierarchical Structure in Streams (KDD 2002): what rises above its own usual rate",
    "Goh 2008": "Goh, Barabasi, Burstiness and memory in complex systems (EPL 81): people act in bursts, machines in beats",
    "Richardson 2007": "Richardson, Dominowska, Ragno, Predicting Clicks: Estimating the Click-Through Rate for New Ads "
    "(WWW 2007): rates of rare things need a prior",
    "Joachims 2005": "Joachims, Granka, Pan, Hembrooke, Gay, Accurately Interpreting Clickthrough Data as Implicit Feedback "
    "(SIGIR 2005): clicks depend on the position",
    "Yi 2014": "Yi, Hong, Zhong, Liu, Rajan, Beyond Clicks: Dwell Time for Personalization (RecSys 2014)",
    "Broder 2002": "Broder, A taxonomy of web search (SIGIR Forum 36): what a query is for",
}

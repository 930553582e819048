"""Short opinions in ten languages beside English, three of each sentiment; written for these benchmarks."""

TEXTS: dict[str, dict[str, tuple[str, ...]]] = {
    "German": {
        "positive": ("Das Essen war wunderbar!", "Ich liebe dieses Buch.", "Endlich Urlaub, ich freue mich so sehr!"),
        "neutral": ("Der Zug fährt um neun Uhr.", "Die Sitzung ist am Dienstag.", "Das Paket liegt im Flur."),
        "negative": ("Das war der schlimmste Tag.", "Der Film ist furchtbar.", "Ich hasse diesen Lärm."),
    },
    "French": {
        "positive": ("Le repas était délicieux !", "J'adore ce livre.", "Quelle belle surprise, merci beaucoup !"),
        "neutral": ("Le train part à neuf heures.", "La réunion a lieu mardi.", "Le colis est dans l'entrée."),
        "negative": ("C'était une journée horrible.", "Ce film est nul.", "Je déteste ce bruit."),
    },
    "Spanish": {
        "positive": ("¡La comida estuvo maravillosa!", "Me encanta este libro.", "¡Qué alegría, muchas gracias!"),
        "neutral": ("El tren sale a las nueve.", "La reunión es el martes.", "El paquete está en la entrada."),
        "negative": ("Fue el peor día de mi vida.", "La película es horrible.", "Odio este ruido."),
    },
    "Italian": {
        "positive": ("Il cibo era meraviglioso!", "Adoro questo libro.", "Che bella sorpresa, grazie mille!"),
        "neutral": ("Il treno parte alle nove.", "La riunione è martedì.", "Il pacco è nell'ingresso."),
        "negative": ("È stata una giornata terribile.", "Il film è pessimo.", "Odio questo rumore."),
    },
    "Polish": {
        "positive": ("Jedzenie było wspaniałe!", "Uwielbiam tę książkę.", "Co za miła niespodzianka, dziękuję!"),
        "neutral": ("Pociąg odjeżdża o dziewiątej.", "Spotkanie jest we wtorek.", "Paczka leży w korytarzu."),
        "negative": ("To był najgorszy dzień.", "Ten film jest okropny.", "Nienawidzę tego hałasu."),
    },
    "Russian": {
        "positive": ("Еда была замечательная!", "Я люблю эту книгу.", "Какой приятный сюрприз, спасибо!"),
        "neutral": ("Поезд отправляется в девять.", "Собрание во вторник.", "Посылка лежит в коридоре."),
        "negative": ("Это был худший день.", "Фильм ужасный.", "Я ненавижу этот шум."),
    },
    "Turkish": {
        "positive": ("Yemek harikaydı!", "Bu kitabı çok seviyorum.", "Ne güzel bir sürpriz, çok teşekkürler!"),
        "neutral": ("Tren saat dokuzda kalkıyor.", "Toplantı salı günü.", "Paket koridorda duruyor."),
        "negative": ("Hayatımın en kötü günüydü.", "Film berbat.", "Bu gürültüden nefret ediyorum."),
    },
    "Arabic": {
        "positive": ("كان الطعام رائعا!", "أحب هذا الكتاب كثيرا.", "يا لها من مفاجأة جميلة، شكرا جزيلا!"),
        "neutral": ("يغادر القطار في الساعة التاسعة.", "الاجتماع يوم الثلاثاء.", "الطرد في الممر."),
        "negative": ("كان أسوأ يوم في حياتي.", "الفيلم سيئ جدا.", "أكره هذه الضوضاء."),
    },
    "Chinese": {
        "positive": ("饭菜太好吃了！", "我非常喜欢这本书。", "真是个惊喜，太感谢了！"),
        "neutral": ("火车九点出发。", "会议在星期二。", "包裹在走廊里。"),
        "negative": ("这是最糟糕的一天。", "这部电影太难看了。", "我讨厌这种噪音。"),
    },
    "Japanese": {
        "positive": ("料理は素晴らしかったです！", "この本が大好きです。", "素敵なサプライズをありがとう！"),
        "neutral": ("電車は九時に出発します。", "会議は火曜日です。", "荷物は廊下にあります。"),
        "negative": ("最悪の一日だった。", "この映画はひどい。", "この騒音が大嫌いだ。"),
    },
}
"""By language and by the label of the sentiment recipe."""


def labelled() -> list[tuple[str, str, str]]:
    """Language, label and text of each."""
    return [
        (language, label, text)
        for language, by_label in TEXTS.items()
        for label, texts in by_label.items()
        for text in texts
    ]

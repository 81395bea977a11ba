"""What mail programs write before the colon in the quoted header of a forward: a table by language.

Gmail translates From alone and leaves the other labels in English, so English ones
count in every language.
"""

import unicodedata
from collections.abc import Mapping
from typing import Final

# From; To; Cc; date; subject; Reply-To; other fields that may stand between them, whose values are not looked at.
_TABLE: Final = {
    "English": """
        From; To; Cc|Copy|Copies; Date|Sent|Sent at|Sent on|Date sent; Subject; Reply-To|Reply to|Please respond to
        Bcc|Importance|Priority|Attachments|Sent by|Sensitivity|Organization|Resent-From|Resent-To""",
    "Afrikaans": "Van; Aan|Na; Afskrif; Datum|Gestuur; Onderwerp; Antwoord aan; Prioriteit",
    "Albanian": "Nga|Dërguesi; Për|Te; Kopje; Data|Dërguar; Subjekti|Tema; Përgjigju; Rëndësia",
    "Arabic": """
        من|المرسل; إلى|الى|المستلم; نسخة|نسخة إلى; التاريخ|تاريخ|تاريخ الإرسال|تم الإرسال|أرسلت; الموضوع|موضوع
        الرد على|الرد إلى; نسخة مخفية|الأهمية|المرفقات""",
    "Basque": "Nork|Igorlea|Bidaltzailea; Nori|Hartzailea|Nora; Kopia; Data|Bidalia; Gaia; Erantzun; Ezkutuko kopia",
    "Belarusian": "Ад|Ад каго; Каму|Да; Копія; Дата|Адпраўлена; Тэма; Адказаць; Важнасць",
    "Bulgarian": """
        От|Подател; До|За|Получател; Копие|Копие до; Дата|Изпратено|Изпратено на; Относно|Тема
        Отговор до|Отговор на; Скрито копие|Важност|Прикачени файлове""",
    "Catalan": """
        De|Remitent; Per a|A|Destinatari; A/c|Còpia|Còpia a; Data|Enviat|Enviat el; Assumpte|Tema
        Respon a|Respondre a; Importància|Adjuncions""",
    "Chinese (simplified)": """
        发件人|发信人|寄件人; 收件人|收信人; 抄送|抄送人; 发送时间|发送日期|日期|时间|已发送|发件日期; 主题|标题
        回复|答复|回复至; 密送|附件|重要性""",
    "Chinese (traditional)": """
        寄件者|寄件人|發件人|寄信人; 收件者|收件人; 副本|副本抄送|抄送
        傳送時間|傳送日期|寄件日期|寄件時間|日期|時間|已傳送|發送時間; 主旨|主題|標題
        回覆|回覆至; 密件副本|附件|重要性""",
    "Croatian": """
        Od|Šalje|Pošiljatelj; Za|Prima|Primatelj; Kopija|Kopija za; Datum|Poslano; Predmet|Naslov|Tema
        Odgovori|Odgovori na|Odgovor na; Skrivena kopija|Važnost|Privici""",
    "Czech": """
        Od|Odesílatel; Komu|Pro|Příjemce; Kopie|Kopie (CC); Datum|Odesláno|Odeslané; Předmět
        Odpověď na|Odpovědět|Odpovědět na|Odpovídat na; Skrytá kopie|Skrytá|Důležitost|Přílohy""",
    "Danish": """
        Fra|Afsender; Til|Modtager; Kopi|Kopi til; Dato|Sendt|Sendt den; Emne
        Svar til; Prioritet|Vedhæftede filer""",
    "Dutch": """
        Van|Afzender; Aan|Naar|Ontvanger; Kopie|Kopie aan; Datum|Verzonden|Verzonden op|Verstuurd; Onderwerp|Betreft
        Antwoord aan|Antwoordadres|Beantwoorden; Urgentie|Prioriteit|Bijlagen""",
    "Estonian": """
        Saatja|Kellelt; Saaja|Adressaat|Kellele; Koopia; Kuupäev|Saadetud; Teema|Pealkiri; Vasta|Vastus
        Pimekoopia|Tähtsus|Manused""",
    "Finnish": """
        Lähettäjä|Keneltä; Vastaanottaja|Saaja|Kenelle; Kopio; Päivämäärä|Päivä|Päiväys|Lähetetty; Aihe
        Vastausosoite|Vastaus; Piilokopio|Tärkeys|Liitteet""",
    "French": """
        De|Expéditeur; À|A|Pour|Destinataire|Destinataires; Copie|Copie à; Envoyé|Envoyé le; Objet|Sujet
        Répondre à|Réponse à; Cci|Pièces jointes|Envoyé par""",
    "Galician": """
        De|Remitente; Para|A|Destinatario; Copia; Data|Enviado|Enviado o; Asunto
        Responder a; Cco|Importancia""",
    "German": """
        Von|Absender; An|Empfänger; Kopie|Kopie an|Kopie (CC); Datum|Gesendet|Gesendet am; Betreff
        Antwort an|Antworten an
        Blindkopie|Priorität|Wichtigkeit|Anlagen|Anhänge|Gesendet von""",
    "Greek": """
        Από|Αποστολέας; Προς|Παραλήπτης; Κοιν|Κοιν.|Κοινοποίηση; Ημερομηνία|Στάλθηκε|Εστάλη|Ημερομηνία αποστολής; Θέμα
        Απάντηση σε|Απάντηση προς; Σπουδαιότητα|Συνημμένα""",
    "Hebrew": """
        מאת|שולח; אל|נמען; עותק|העתק; תאריך|התאריך|נשלח|בתאריך; נושא|הנושא|הנדון; השב אל|תשובה אל
        עותק מוסתר|חשיבות""",
    "Hindi": "प्रेषक; प्रति|प्राप्तकर्ता; प्रतिलिपि; दिनांक|तारीख|भेजा गया; विषय; इसे उत्तर दें; महत्व",
    "Hungarian": """
        Feladó|Küldő; Címzett|Címzettek; Másolat|Másolatot kap; Dátum|Küldve|Elküldve; Tárgy; Válaszcím
        Titkos másolat|Rejtett másolat|Fontosság|Mellékletek""",
    "Icelandic": "Frá|Sendandi; Til|Viðtakandi; Afrit; Dagsetning|Sent; Efni; Svara til; Mikilvægi",
    "Indonesian": """
        Dari|Pengirim; Kepada|Ke|Untuk|Penerima; Tembusan; Tanggal|Dikirim; Perihal|Subjek|Judul
        Balas ke; Lampiran""",
    "Italian": """
        Da|Mittente; A|Destinatario; Copia|Per conoscenza; Data|Inviato|Inviato il; Oggetto; Rispondi a|Rispondi
        Ccn|Priorità|Allegati""",
    "Japanese": """
        差出人|送信者|送信元; 宛先|送信先; Ｃｃ|写し; 日時|日付|送信日時|送信日; 件名|題名; 返信先
        添付ファイル|重要度""",
    "Korean": """
        보낸 사람|보낸이|발신자; 받는 사람|받는이|수신자; 참조; 보낸 날짜|보낸 시간|날짜|일시; 제목; 회신|회신 주소
        숨은 참조|중요도|첨부 파일""",
    "Latvian": """
        No|Sūtītājs|Nosūtītājs; Kam|Adresāts|Saņēmējs; Kopija; Datums|Nosūtīts; Temats|Tēma
        Atbildēt; Svarīgums""",
    "Lithuanian": "Nuo|Siuntėjas; Kam|Gavėjas; Kopija; Data|Išsiųsta; Tema; Atsakyti; Svarba|Priedai",
    "Macedonian": "Од; До|За; Копија; Датум|Испратено; Наслов|Предмет|Тема; Одговори; Важност",
    "Malay": "Daripada|Dari; Kepada|Ke; Sk|Salinan; Tarikh|Dihantar; Subjek|Perkara; Balas kepada; Lampiran",
    "Norwegian": """
        Fra|Frå|Avsender; Til|Mottaker; Kopi|Kopi til; Dato|Sendt|Sendt den; Emne
        Svar til; Viktighet|Vedlegg""",
    "Persian": "از|فرستنده; به|گیرنده; رونوشت; تاریخ|ارسال شده; موضوع; پاسخ به; پیوست",
    "Polish": """
        Od|Nadawca; Do|Adresat|Odbiorca; DW|Do wiadomości|Kopia; Data|Wysłano|Wysłane|Data wysłania; Temat
        Odpowiedź do|Odpowiedź-do|Odpowiedz do; UDW|Ważność|Załączniki""",
    "Portuguese": """
        De|Remetente; Para|Destinatário; Cópia|Com cópia; Data|Enviado|Enviada|Enviado em|Enviada em|Data de envio
        Assunto; Responder a|Responder para; Cco|Prioridade|Importância|Anexos""",
    "Romanian": """
        De la|De|Expeditor|Expeditorul; Către|Catre|Pentru|Destinatar|Destinatarul; Copie|Copie la
        Data|Dată|Trimis|Trimis la|Trimisă; Subiect|Subiectul
        Răspuns la|Răspuns către|Răspunde la; Importanță|Atașări""",
    "Russian": """
        От|От кого|Отправитель; Кому|Получатель; Копия; Дата|Отправлено|Дата отправки; Тема
        Ответить|Ответ|Ответ-Кому|Обратный адрес; Скрытая копия|Важность|Вложения""",
    "Serbian": """
        Od|Šalje|Pošiljalac|Од|Шаље|Пошиљалац; Za|Prima|Primalac|За|Прима|Прималац; Kopija|Копија
        Datum|Poslato|Датум|Послато; Predmet|Naslov|Tema|Предмет|Наслов|Тема; Odgovori|Одговори; Važnost|Важност""",
    "Slovak": """
        Od|Odosielateľ; Komu|Pre|Príjemca; Kópia|Kopia; Dátum|Odoslané|Poslané; Predmet
        Odpoveď komu|Odpovedať|Odpovedať-Pre|Odpoveď na; Skrytá kópia|Dôležitosť|Prílohy""",
    "Slovenian": "Od|Pošiljatelj; Za|Prejemnik; Kp|Kopija; Datum|Poslano; Zadeva; Odgovor za; Skp|Pomembnost|Priloge",
    "Spanish": """
        De|Remitente; Para|A|Destinatario; Copia|Con copia; Fecha|Enviado|Enviado el|Enviada; Asunto; Responder a
        Cco|Importancia|Prioridad|Datos adjuntos|Archivos adjuntos""",
    "Swedish": """
        Från|Avsändare; Till|Mottagare; Kopia|Kopia till; Datum|Skickat|Skickat den; Ämne
        Svar till|Svara till; Prioritet|Bifogade filer""",
    "Thai": "จาก|ผู้ส่ง; ถึง|ผู้รับ; สำเนา|สำเนาถึง; วันที่|ส่งเมื่อ; เรื่อง|หัวเรื่อง; ตอบกลับ; ความสำคัญ",
    "Turkish": """
        Kimden|Gönderen; Kime|Alıcı; Bilgi; Tarih|Gönderildi|Gönderme Tarihi; Konu; Yanıt|Yanıtla|Yanıt adresi
        Gizli|Önem Derecesi|Ekler""",
    "Ukrainian": """
        Від|Від кого|Відправник; Кому|До|Отримувач|Одержувач; Копія; Дата|Надіслано|Відправлено; Тема
        Відповісти|Відповідь|Кому відповісти; Прихована копія|Важливість|Вкладення""",
    "Vietnamese": """
        Từ|Người gửi; Đến|Tới|Người nhận; Đồng kính gửi|Đồng gửi; Ngày|Vào ngày|Đã gửi; Chủ đề|Tiêu đề
        Trả lời|Phản hồi; Tệp đính kèm""",
}
_FIELDS: Final = ("from", "to", "cc", "date", "subject", "reply-to", "other")


def compared(label: str) -> str:
    """A label as it is looked up: without emphasis (`*From*`), spaces (`收 件 人`) and case."""
    return "".join(unicodedata.normalize("NFKC", label).strip("*_ ").casefold().split())


def _labels() -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = {}
    by_language = {language: _columns(text) for language, text in _TABLE.items()}
    english = by_language["English"]
    for language, columns in by_language.items():
        for field, labels in columns.items():
            for label in labels:
                table.setdefault(compared(label), {})[language] = field
    for field, labels in english.items():
        if field != "from":
            for label in labels:
                meanings = table[compared(label)]
                for language in _TABLE:
                    meanings.setdefault(language, field)
    return table


def _columns(text: str) -> dict[str, list[str]]:
    columns = [column.strip() for line in text.strip().splitlines() for column in line.split(";")]
    return {field: column.split("|") for field, column in zip(_FIELDS, columns, strict=True)}


LABELS: Final[Mapping[str, Mapping[str, str]]] = _labels()
"""Label (as `compared` gives it) to what it means: language to `from`, `reply-to`, `to`, `cc`, `date`, `subject` or
`other`."""
LANGUAGES: Final = tuple(_TABLE)
"""English first."""
MAX_LABEL: Final = 2 * max(map(len, LABELS))
"""Characters before the colon within which a label is sought; it may be spaced and emphasised."""

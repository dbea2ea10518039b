//! Texts of the pages in English, Portuguese and Spanish.

use http::{HeaderMap, header};

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    Portuguese,
    Spanish,
}

impl Language {
    /// Returns the preferred language of a request: English unless `Accept-Language` prefers another one (RFC 9110, section 12.5.4).
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = headers.get(header::ACCEPT_LANGUAGE).and_then(|own| own.to_str().ok()).unwrap_or_default();
        let ranges = text.split(',').take(20).filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next()?.split('-').next()?.to_ascii_lowercase();
            let quality: f32 = parts.next().and_then(|own| own.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            let language = match tag.as_str() {
                "en" => Self::English,
                "pt" => Self::Portuguese,
                "es" => Self::Spanish,
                _ => return None,
            };
            (quality > 0.0).then_some((language, quality))
        });
        // The first of equal quality.
        let best = ranges.fold(None, |best: Option<(Self, f32)>, own| match best {
            Some(best) if best.1 >= own.1 => Some(best),
            _ => Some(own),
        });
        best.map_or(Self::English, |(language, _)| language)
    }

    /// Returns the language tag.
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Portuguese => "pt",
            Self::Spanish => "es",
        }
    }

    /// Returns the texts.
    pub(crate) const fn texts(self) -> &'static Texts {
        match self {
            Self::English => &ENGLISH,
            Self::Portuguese => &PORTUGUESE,
            Self::Spanish => &SPANISH,
        }
    }
}

/// The texts of one language.
pub(crate) struct Texts {
    pub(crate) title: &'static str,
    /// Before the name or domain of the client, and after it.
    pub(crate) asks: [&'static str; 2],
    pub(crate) application: &'static str,
    pub(crate) verified_domain: &'static str,
    pub(crate) unverified: &'static str,
    pub(crate) configured: &'static str,
    pub(crate) server: &'static str,
    pub(crate) permissions: &'static str,
    pub(crate) no_permissions: &'static str,
    pub(crate) answer_goes_to: &'static str,
    pub(crate) own_computer: &'static str,
    pub(crate) loopback_warning: &'static str,
    pub(crate) next_step: &'static str,
    pub(crate) approve: &'static str,
    pub(crate) deny: &'static str,
    pub(crate) error_title: &'static str,
    pub(crate) error_request: &'static str,
    pub(crate) error_client: &'static str,
    pub(crate) error_document: &'static str,
    pub(crate) error_expired: &'static str,
    pub(crate) error_cookies: &'static str,
    pub(crate) error_limited: &'static str,
    pub(crate) error_internal: &'static str,
    pub(crate) error_denied: &'static str,
    pub(crate) error_account: &'static str,
    pub(crate) return_link: &'static str,
    pub(crate) grants_title: &'static str,
    pub(crate) grants_introduction: &'static str,
    pub(crate) grants_hint: &'static str,
    pub(crate) grants_none: &'static str,
    pub(crate) since: &'static str,
    pub(crate) revoke: &'static str,
    pub(crate) revoke_all: &'static str,
    pub(crate) sign_in: &'static str,
}

const ENGLISH: Texts = Texts {
    title: "Allow access?",
    asks: ["Allow", "to use this server on your behalf?"],
    application: "Application",
    verified_domain: "identified by its domain",
    unverified: "The name is given by the application itself and is not verified.",
    configured: "registered by the operator of this server",
    server: "Server",
    permissions: "It may",
    no_permissions: "Use the server without special permissions",
    answer_goes_to: "The answer goes to",
    own_computer: "a program on this computer",
    loopback_warning: "Any program on this computer can pretend to be this application. Continue only if you have just started the sign-in yourself.",
    next_step: "Next, you sign in at",
    approve: "Allow",
    deny: "Deny",
    error_title: "Sign-in is not possible",
    error_request: "The application sent an invalid request. Report this to its developer:",
    error_client: "The application is not registered here. Remove the server in the application, add it again, and sign in again.",
    error_document: "The application could not be identified, because its metadata document cannot be read. Try again later.",
    error_expired: "This sign-in has expired or was completed already. Start it again in the application.",
    error_cookies: "The sign-in was started in another browser, or cookies are off. Allow cookies for this page, and start the sign-in again in the application.",
    error_limited: "There are too many requests at the moment. Try again in an hour.",
    error_internal: "The sign-in failed because of an error. Try again later.",
    error_denied: "The access was denied. The application got none.",
    error_account: "This account has no access to the server. To use another account, sign out of this one where you signed in, and start the sign-in again in the application.",
    return_link: "Return to the application",
    grants_title: "Applications with access",
    grants_introduction: "See which applications use servers on your behalf, and revoke their access.",
    grants_hint: "Each entry is one sign-in of an application. A revoked access ends within ten minutes.",
    grants_none: "No application has access.",
    since: "Since",
    revoke: "Revoke",
    revoke_all: "Revoke all",
    sign_in: "Sign in",
};

const PORTUGUESE: Texts = Texts {
    title: "Permitir o acesso?",
    asks: ["Permitir que", "use este servidor em seu nome?"],
    application: "Aplicação",
    verified_domain: "identificada pelo seu domínio",
    unverified: "O nome é dado pela própria aplicação e não foi verificado.",
    configured: "registrada pelo operador deste servidor",
    server: "Servidor",
    permissions: "Ela poderá",
    no_permissions: "Usar o servidor sem permissões especiais",
    answer_goes_to: "A resposta vai para",
    own_computer: "um programa neste computador",
    loopback_warning: "Qualquer programa neste computador pode se fazer passar por esta aplicação. Continue somente se você acabou de iniciar o acesso.",
    next_step: "Em seguida, você entra em",
    approve: "Permitir",
    deny: "Negar",
    error_title: "Não é possível entrar",
    error_request: "A aplicação enviou um pedido inválido. Informe o desenvolvedor:",
    error_client: "A aplicação não está registrada aqui. Remova o servidor na aplicação, adicione-o de novo e entre outra vez.",
    error_document: "Não foi possível identificar a aplicação, porque o seu documento de metadados não pode ser lido. Tente mais tarde.",
    error_expired: "Este acesso expirou ou já foi concluído. Inicie-o de novo na aplicação.",
    error_cookies: "O acesso foi iniciado em outro navegador, ou os cookies estão desativados. Permita cookies para esta página e inicie o acesso de novo na aplicação.",
    error_limited: "Há pedidos demais no momento. Tente de novo em uma hora.",
    error_internal: "O acesso falhou por causa de um erro. Tente mais tarde.",
    error_denied: "O acesso foi negado. A aplicação não recebeu nenhum.",
    error_account: "Esta conta não tem acesso ao servidor. Para usar outra conta, saia desta no site onde você entrou e inicie o acesso de novo na aplicação.",
    return_link: "Voltar à aplicação",
    grants_title: "Aplicações com acesso",
    grants_introduction: "Veja quais aplicações usam servidores em seu nome e revogue o acesso delas.",
    grants_hint: "Cada item é um acesso iniciado por uma aplicação. Um acesso revogado termina em até dez minutos.",
    grants_none: "Nenhuma aplicação tem acesso.",
    since: "Desde",
    revoke: "Revogar",
    revoke_all: "Revogar todos",
    sign_in: "Entrar",
};

const SPANISH: Texts = Texts {
    title: "¿Permitir el acceso?",
    asks: ["¿Permitir que", "use este servidor en su nombre?"],
    application: "Aplicación",
    verified_domain: "identificada por su dominio",
    unverified: "El nombre lo da la propia aplicación y no está verificado.",
    configured: "registrada por el operador de este servidor",
    server: "Servidor",
    permissions: "Podrá",
    no_permissions: "Usar el servidor sin permisos especiales",
    answer_goes_to: "La respuesta va a",
    own_computer: "un programa en este equipo",
    loopback_warning: "Cualquier programa en este equipo puede hacerse pasar por esta aplicación. Continúe solo si acaba de iniciar el acceso usted mismo.",
    next_step: "Después, inicie sesión en",
    approve: "Permitir",
    deny: "Denegar",
    error_title: "No es posible iniciar sesión",
    error_request: "La aplicación envió una solicitud no válida. Informe a su desarrollador:",
    error_client: "La aplicación no está registrada aquí. Elimine el servidor en la aplicación, agréguelo de nuevo e inicie sesión otra vez.",
    error_document: "No se pudo identificar la aplicación, porque no se puede leer su documento de metadatos. Inténtelo más tarde.",
    error_expired: "Este inicio de sesión caducó o ya se completó. Inícielo de nuevo en la aplicación.",
    error_cookies: "El inicio de sesión comenzó en otro navegador, o las cookies están desactivadas. Permita las cookies para esta página e inicie sesión de nuevo en la aplicación.",
    error_limited: "Hay demasiadas solicitudes en este momento. Inténtelo de nuevo en una hora.",
    error_internal: "El inicio de sesión falló por un error. Inténtelo más tarde.",
    error_denied: "Se denegó el acceso. La aplicación no recibió ninguno.",
    error_account: "Esta cuenta no tiene acceso al servidor. Para usar otra cuenta, cierre la sesión de esta en el sitio donde la inició, y comience de nuevo en la aplicación.",
    return_link: "Volver a la aplicación",
    grants_title: "Aplicaciones con acceso",
    grants_introduction: "Vea qué aplicaciones usan servidores en su nombre y revoque su acceso.",
    grants_hint: "Cada elemento es un inicio de sesión de una aplicación. Un acceso revocado termina en un máximo de diez minutos.",
    grants_none: "Ninguna aplicación tiene acceso.",
    since: "Desde",
    revoke: "Revocar",
    revoke_all: "Revocar todos",
    sign_in: "Iniciar sesión",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_preferred_one_of_three() {
        for (text, expected) in [
            ("", Language::English),
            ("pt-BR,pt;q=0.9,en;q=0.8", Language::Portuguese),
            ("de-DE, es;q=0.5, en;q=0.4", Language::Spanish),
            ("en;q=0.1, es-419", Language::Spanish),
            ("es, pt", Language::Spanish),
            ("pt;q=0, es;q=x", Language::Spanish),
            ("fr", Language::English),
            ("*", Language::English),
            // Estonian, by the code of three letters.
            ("est, pt;q=0.5", Language::Portuguese),
            ("ES;q=0.3, PT;q=0.7", Language::Portuguese),
            ("p\u{e9}", Language::English),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, text.try_into().unwrap());
            assert_eq!(Language::of(&headers), expected, "{text}");
        }
    }
}
